"""In: HTTP for programs that manage. FastAPI, described by an OpenAPI file; inference goes through `edge`."""
