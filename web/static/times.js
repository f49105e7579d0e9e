// Exact times on hover in the viewer's own zone. Without this file they are in the shop's.
"use strict";
const words = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "short" });
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
for (const time of document.querySelectorAll("time[datetime]")) {
  time.title = `${words.format(new Date(time.dateTime))} ${zone}`;
}
