"""The page about a build: a Program or a build in, one HTML file out."""
