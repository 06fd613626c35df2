"""What surrounds a run and knows nothing of what is learned: flags, folder, files, versions."""
