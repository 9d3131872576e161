"""What builds the package: the build backend and the parts that it makes."""
