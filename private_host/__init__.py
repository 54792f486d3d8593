"""A private ComfyUI: for people without one, and for the tests. Knows nothing of this pack but its folder."""
