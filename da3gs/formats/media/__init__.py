"""Pictures and videos: containers, colours, frames."""
