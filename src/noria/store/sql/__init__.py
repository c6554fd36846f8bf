"""Statements as values: the words they are said with, how SQLite runs them by plans, and SQLAlchemy behind both."""
