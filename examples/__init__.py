"""Runnable examples of janode."""
