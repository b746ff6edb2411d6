"""Data sets as their authors published them: files on disk or from the hub, cleaned and split."""
