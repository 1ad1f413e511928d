"""Every medium, in every shape, through every door of the server."""
