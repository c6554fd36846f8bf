"""Published test tools: workspaces that need no project on disk, one conformance class per seam."""
