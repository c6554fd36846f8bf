"""One attempt of a step, in the process that runs it: its arguments, its call, what it saved and used."""
