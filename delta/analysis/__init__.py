"""What is measured beside Table 1: one module an analysis, with what several of them need."""
