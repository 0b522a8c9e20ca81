"""Networks: their description (`spec`), building, saving and loading (`network`), feature maps (`hooks`), devices."""
