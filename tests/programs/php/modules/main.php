<?php
require __DIR__ . "/shapes/square.php";

echo area(7), "\n";
