"""Scripts that run as processes of their own, never imported: each stands for a program that we must not link to."""
