"""What only many runs at once need: their folders, and environments on the device."""
