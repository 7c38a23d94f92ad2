<?php
$file = fopen("flood", "w");
while (true) {
    if (@fwrite($file, str_repeat("x", 100000)) !== 100000) {
        throw new RuntimeException("cannot write");
    }
}
