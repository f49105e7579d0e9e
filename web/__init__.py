"""Hooks in, pages out."""
