"""VNN-LIB queries about plain networks, read into boxes of inputs and linear conditions."""
