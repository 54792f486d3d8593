"""The source of the workflow files: from one description come the page's file and the one for the API."""
