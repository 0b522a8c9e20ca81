"""Networks: what is known of one (`spec`), building and saving it (`network`), and its feature maps (`hooks`)."""
