"""Diptychs: geometry, composing and cropping panels, the trained prompt. Needs torch and pillow, no host."""
