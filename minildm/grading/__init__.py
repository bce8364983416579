"""Grading the course's assignments: every submission in a bounded process, every answer judged outside it."""
