"""The HTTP edge: reads bodies strictly, knows who calls, and turns answers and errors into JSON."""
