// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.20;

/// A token whose issuer keeps a say, as large ones on public chains do: it can be paused, accounts can be refused,
/// it has as many decimals as it was made with, and it may be reached at a second address.
contract IssuedToken {
    string public constant name = "Issued Token";
    string public constant symbol = "ISSUED";
    uint8 public immutable decimals;

    uint256 public totalSupply;
    bool public paused;
    address public second;
    mapping(address => uint256) public balanceOf;
    mapping(address => bool) public refused;

    event Transfer(address indexed from, address indexed to, uint256 value);

    constructor(uint8 decimals_) {
        decimals = decimals_;
    }

    function mint(address to, uint256 amount) external {
        totalSupply += amount;
        balanceOf[to] += amount;
        emit Transfer(address(0), to, amount);
    }

    function pause(bool on) external {
        paused = on;
    }

    function refuse(address account, bool on) external {
        refused[account] = on;
    }

    function addSecond(address entry) external {
        second = entry;
    }

    function transfer(address to, uint256 amount) external returns (bool) {
        _move(msg.sender, to, amount);
        return true;
    }

    function transferFor(address from, address to, uint256 amount) external returns (bool) {
        require(msg.sender == second, "only from the second address");
        _move(from, to, amount);
        return true;
    }

    function _move(address from, address to, uint256 amount) private {
        require(!paused, "paused");
        require(!refused[from] && !refused[to], "account refused");
        require(balanceOf[from] >= amount, "balance too low");
        balanceOf[from] -= amount;
        balanceOf[to] += amount;
        emit Transfer(from, to, amount);
    }
}

/// Another address of an IssuedToken, left over from before it moved: the same balances, but whatever moves is
/// logged by the token's first address.
contract SecondEntry {
    IssuedToken public immutable token;

    constructor(IssuedToken token_) {
        token = token_;
    }

    function decimals() external view returns (uint8) {
        return token.decimals();
    }

    function balanceOf(address owner) external view returns (uint256) {
        return token.balanceOf(owner);
    }

    function transfer(address to, uint256 amount) external returns (bool) {
        return token.transferFor(msg.sender, to, amount);
    }
}
