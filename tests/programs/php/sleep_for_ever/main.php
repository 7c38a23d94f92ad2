<?php
while (true) {
    sleep(3600);
}
