"""What only a GPU can show; each test is skipped where there is none, or what it needs is not."""
