//! Requests of every kind: how many there are, and how they were answered.

use super::Family;
use crate::guard::Requests;

pub fn seen(requests: &Requests) -> [Family; 2] {
    let mut under_way =
        Family::gauge("tributary_http_requests_under_way", "Requests that are not answered yet, long polls included.");
    under_way.push_whole(&[], requests.under_way.now());
    let mut answered =
        Family::counter("tributary_http_responses_total", "Answers by the class of their status; sockets are 1xx.");
    for (class, count) in requests.answered.now() {
        answered.push_whole(&[("class", class)], count);
    }
    [under_way, answered]
}
