"""Reproductions of the papers' claims: each study is one command that prints its table and fails if a claim does."""
