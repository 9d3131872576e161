"""Our books beside the providers' own reports: what differs, what explains it, and what nothing explains."""
