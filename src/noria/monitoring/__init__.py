"""What the world does to a model: windows of requests against the reference, and labels against scores."""
