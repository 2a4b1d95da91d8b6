//! What may stand in `store.url`.

/// What stands before the name of a bucket.
const SCHEME: &str = "s3://";

/// Bucket and prefix of an address, if it is one.
pub(crate) fn bucket_and_prefix(url: &str) -> Option<(&str, &str)> {
    let address = url.strip_prefix(SCHEME)?;
    let (bucket, given) = address.split_once('/').unwrap_or((address, ""));
    let prefix = given.strip_suffix('/').unwrap_or(given);
    let is_bucket = (3..=63).contains(&bucket.len())
        && bucket
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte));
    let is_part = |part: &str| {
        let is_char = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        !part.is_empty() && part != "." && part != ".." && part.bytes().all(is_char)
    };
    let is_prefix = given.is_empty() || (prefix.len() <= 512 && prefix.split('/').all(is_part));
    (is_bucket && is_prefix).then_some((bucket, prefix))
}

#[cfg(test)]
mod tests {
    use super::bucket_and_prefix;

    #[test]
    fn an_address_names_a_bucket_and_maybe_a_prefix() {
        assert_eq!(bucket_and_prefix("s3://studio"), Some(("studio", "")));
        assert_eq!(bucket_and_prefix("s3://studio/"), Some(("studio", "")));
        assert_eq!(
            bucket_and_prefix("s3://my.studio-2/a/b_c/"),
            Some(("my.studio-2", "a/b_c"))
        );
        for bad in [
            "",
            "studio",
            "s3://",
            "s3://ab",
            "s3://Studio",
            "s3://studio//",
            "s3://studio/../x",
            "s3://studio/a b",
            "http://studio",
        ] {
            assert_eq!(bucket_and_prefix(bad), None, "{bad}");
        }
    }
}
