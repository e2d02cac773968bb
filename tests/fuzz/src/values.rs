//! Single values: URIs, and every value parser over the same bytes.

use lampfield::sip::{
    AcceptRange, Contact, Credentials, EventHeader, Host, MediaType, NameAddr, Params,
    SubscriptionState, Tel, Uri, Via, Writer, decimal, expires, trim,
};

use crate::is_inside;

/// URIs lie in their input, equal themselves, and compare the same both ways. A line end separates two of them.
pub fn uri(data: &[u8]) {
    let mut halves = data.splitn(2, |&byte| byte == b'\n');
    let first = halves.next().unwrap_or(&[]);
    let second = halves.next().unwrap_or(&[]);
    let _ = Tel::parse(first);
    let (Ok(first), second) = (Uri::parse(first), Uri::parse(second)) else {
        return;
    };
    one_uri(&first);
    if let Ok(second) = second {
        one_uri(&second);
        assert_eq!(first.same(&second), second.same(&first));
    }
}

fn one_uri(uri: &Uri<'_>) {
    assert!(uri.same(uri), "a URI is the same as itself");
    for part in [uri.user, uri.password, uri.headers].into_iter().flatten() {
        assert!(is_inside(part, uri.raw));
    }
    for param in uri.params() {
        assert!(is_inside(param.name, uri.raw));
        assert!(param.value.is_none_or(|value| is_inside(value, uri.raw)));
    }
    assert!(uri.decoded_user().count() <= uri.raw.len());
    assert_ne!(uri.port, Some(0));
    let _ = uri.is_loose();
    // The host is written in a form that reads as the same host.
    let mut buffer = vec![0; uri.raw.len() + 64];
    let mut writer = Writer::new(&mut buffer);
    uri.host.write(&mut writer);
    let length = writer.finish().expect("room enough");
    let again = Host::parse(&buffer[..length]).expect("a host");
    assert!(again.same(&uri.host));
}

/// Every value parser takes any bytes, and what it returns lies inside them.
pub fn value(data: &[u8]) {
    let _ = (expires(data), decimal(data));
    assert!(is_inside(trim(data), data));
    if let Ok(address) = NameAddr::parse(data) {
        assert!(is_inside(address.display, data) && is_inside(address.uri, data));
        params(&address.params, data);
        assert_eq!(
            address.tag,
            address.params.get("tag").and_then(|tag| tag.value)
        );
        assert!(matches!(Contact::parse(data), Ok(Contact::Address(_))));
    }
    if let Ok(via) = Via::parse(data) {
        params(&via.params, data);
        assert_eq!(via.branch, via.params.value("branch"));
        assert_ne!(via.port, Some(0));
    }
    if let Ok(event) = EventHeader::parse(data) {
        assert!(is_inside(event.package, data));
        params(&event.params, data);
    }
    if let Ok(state) = SubscriptionState::parse(data) {
        params(&state.params, data);
    }
    if let Ok(media) = MediaType::parse(data) {
        params(&media.params, data);
    }
    if let Ok(range) = AcceptRange::parse(data) {
        assert!(range.q <= 1000);
    }
    if let Ok(all) = Params::parse(data) {
        params(&all, data);
    }
    if let Ok(credentials) = Credentials::parse(data) {
        let mut count = 0;
        for param in credentials.params() {
            count += 1;
            assert!(is_inside(param.name, data) && is_inside(param.value, data));
            assert!(param.unescaped().count() <= param.value.len());
        }
        assert!(count <= data.len());
    }
}

/// Checked parameters are all there: what is left when they have been walked through is nothing.
fn params(params: &Params<'_>, data: &[u8]) {
    let mut seen = 0;
    for param in params.iter() {
        assert!(is_inside(param.name, data) && !param.name.is_empty());
        assert!(
            param
                .value
                .is_none_or(|value| is_inside(value, data) && !value.is_empty())
        );
        assert!(param.unquoted().is_none_or(|value| is_inside(value, data)));
        seen += 1;
    }
    let semicolons = params
        .as_bytes()
        .iter()
        .filter(|&&byte| byte == b';')
        .count();
    assert!(seen <= semicolons);
    assert_eq!(seen == 0, trim(params.as_bytes()).is_empty());
}
