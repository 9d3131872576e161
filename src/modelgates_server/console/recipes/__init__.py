"""What a person copies or downloads to connect a client. Pure: values in, text or bytes out; each has a golden file among the tests."""
