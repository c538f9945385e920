"""What the tests share: networks, exports, graphs made by hand, and scripts that write pages of the docs."""
