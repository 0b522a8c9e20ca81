"""What the stages share and no result depends on: parameters, paths, the command line and how a stage ends."""
