"""Pages for people: rendered on the server, read only, without JavaScript."""
