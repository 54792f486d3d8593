"""Starting a ComfyUI: a private one, for people without one and for the tests, or one that is installed already.

It knows nothing of this pack but its folder.
"""
