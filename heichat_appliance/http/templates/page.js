// The landing page works without this: it adds a button that copies the server's address.
"use strict";

for (const button of document.querySelectorAll("button[data-copy]")) {
    const source = document.getElementById(button.dataset.copy);
    const told = document.getElementById(button.dataset.told);
    const select = () => getSelection().selectAllChildren(source);
    button.hidden = false;
    button.addEventListener("click", async () => {
        try {
            await navigator.clipboard.writeText(source.textContent.trim());
            told.textContent = button.dataset.done;
        } catch {
            select(); // no secure context, or not allowed: then by hand
            told.textContent = button.dataset.failed;
        }
    });
}
