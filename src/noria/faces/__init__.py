"""How people and machines come in: command line, HTTP, pages. No decision is made here."""
