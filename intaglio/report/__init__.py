"""The page about a build: its network drawn, its folding, resources, queues and detections."""
