"""What a submission runs in, and how the grader talks to it: the part to audit."""
