"""What the workflow files are made from: one description gives the page's file and its API twin."""
