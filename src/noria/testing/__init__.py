"""Published test tools: workspaces that need no project, one conformance class per seam."""

from noria.testing.payloads import random_payload
from noria.testing.workspace import TestClock, open_memory

__all__ = ["TestClock", "open_memory", "random_payload"]
