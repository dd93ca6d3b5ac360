"""The storage plugin: `sda://`, `workspace://` and `htsget://` files and what is known of them."""
