"""What a step is, before it runs: the code that it reaches, in canonical form."""
