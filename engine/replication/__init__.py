"""The replicated log of one group. The only room that imports pysyncobj."""
