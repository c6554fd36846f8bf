"""Questions about a project as a whole: its state, its history, and why anything is as it is."""
