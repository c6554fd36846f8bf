"""Rules that other tools wrote, and rules for other tools: Great Expectations and Pandera."""
