"""Leaving tokens whose result is known out of most model calls: which ones, when, and what is kept of them."""
