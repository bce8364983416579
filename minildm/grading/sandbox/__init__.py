"""What a submission runs in, and how the grader talks to it: the part to audit.

Read it in this order; nothing outside this folder is imported but numpy and torch, for arrays, and,
for cells with its syntax, IPython's input transformer:

    wire      what travels between the two, and what is believed of it
    runner    the submission's process: runs cells, answers questions, holds no answers
    cage      around it: its own files, no network, limits; the standard library only
    session   the grader's side: starts the cage, asks, watches, ends
"""
