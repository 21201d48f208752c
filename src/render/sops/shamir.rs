//! Shares of a data key: Shamir's scheme over GF(2^8), as Vault and SOPS use it.

use zeroize::Zeroizing;

/// Puts shares together; the last byte of each is its number.
pub(super) fn combine(shares: &[Zeroizing<Vec<u8>>]) -> Result<Zeroizing<Vec<u8>>, String> {
    let length = shares.first().map_or(0, |share| share.len());
    if shares.len() < 2 || length < 2 || shares.iter().any(|share| share.len() != length) {
        return Err("the shares of its data key do not belong together".into());
    }
    let numbers: Vec<u8> = shares.iter().map(|share| share[length - 1]).collect();
    let twice = (1..numbers.len()).any(|at| numbers[..at].contains(&numbers[at]));
    if twice || numbers.contains(&0) {
        return Err("a share of its data key is there twice".into());
    }
    let mut secret = Zeroizing::new(vec![0; length - 1]);
    for (at, byte) in secret.iter_mut().enumerate() {
        // Lagrange's polynomial at 0; subtraction is addition is xor.
        for (share, number) in shares.iter().zip(&numbers) {
            let others = numbers.iter().filter(|other| *other != number);
            let basis =
                others.fold(1, |basis, other| multiply(basis, multiply(*other, inverse(*other ^ number))));
            *byte ^= multiply(share[at], basis);
        }
    }
    Ok(secret)
}

/// In the field of AES, without branches on secret bits.
fn multiply(a: u8, b: u8) -> u8 {
    (0..8).rev().fold(0u8, |product, bit| {
        let reduced = (product << 1) ^ (0x1b & 0u8.wrapping_sub(product >> 7));
        reduced ^ (a & 0u8.wrapping_sub(b >> bit & 1))
    })
}

/// a^254.
fn inverse(a: u8) -> u8 {
    let square = |value: u8| multiply(value, value);
    let mut power = a;
    for _ in 0..6 {
        power = multiply(square(power), a);
    }
    square(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inverses_are_inverses() {
        for value in 1..=255 {
            assert_eq!(multiply(value, inverse(value)), 1, "{value}");
        }
        // FIPS 197, 4.2.
        assert_eq!(multiply(0x57, 0x83), 0xc1);
    }

    #[test]
    fn shares_give_the_secret() {
        // secret + 7 x: share n is secret xor 7 n.
        let share =
            |number: u8| Zeroizing::new(vec![0x2a ^ multiply(7, number), 0x63 ^ multiply(7, number), number]);
        assert_eq!(*combine(&[share(1), share(2)]).unwrap(), [0x2a, 0x63]);
        assert_eq!(*combine(&[share(5), share(3)]).unwrap(), [0x2a, 0x63]);
        assert!(combine(&[share(1), share(1)]).is_err());
        assert!(combine(&[share(1)]).is_err());
    }
}
