"""Models as immutable bundles: files, signature, golden rows, environment; and how to ask them."""

from noria.packaging.bundle import Bundle, Flavor, build, load, read
from noria.packaging.predictor import Predictor
from noria.packaging.rows import Field, RowRefused, Rows

__all__ = ["Bundle", "Field", "Flavor", "Predictor", "RowRefused", "Rows", "build", "load", "read"]
