"""Source networks: which are offered (`catalogue`), their published weights, and finding their parts."""
