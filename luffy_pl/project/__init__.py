"""`luffy-pl init`: a folder to begin a project of one's own in."""
